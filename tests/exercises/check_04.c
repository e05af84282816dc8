#include "exercise.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

/* Other numbers in each run: nobody can know them. */
static void roll_dice(void)
{
    srand((unsigned)getpid() ^ (unsigned)(now() * 1e6));
}

static size_t random_size(size_t from, size_t to)
{
    return from + (size_t)rand() % (to - from + 1);
}

/* --- swap --- */

enum { CROWD = 10000, SMALL_CROWD = 5000 };

/* CPU time that the process takes for one of 200 echoes. */
static double echo_cost(pid_t pid, const int fds[], int count)
{
    double before = process_cpu(pid);
    for (int i = 0; i < 200; i++)
        expect(client_echo(fds[i % count], "x"), "a client that stayed is not served any more");
    return (process_cpu(pid) - before) / 200;
}

/* Waits until the server has taken back all of those who left. */
static void expect_descriptors(int wanted, const char *after)
{
    if (wanted > 0)
        expect(descriptors_become(wanted), "after %s, %d open descriptors were expected, not %d",
               after, wanted, process_descriptors(server.pid));
}

/* A crowd comes. The last of it stays, and as many others, from anywhere, as to make `stay` in all;
 * the others leave, half of them while the server is stopped, so that it finds all in one round. */
static void crowd_passes(int fds[], int stay, int crowd)
{
    int empty = process_descriptors(server.pid);
    int *all = calloc((size_t)crowd, sizeof *all);
    ck_assert_ptr_nonnull(all);
    for (int i = 0; i < crowd; i++)
        all[i] = connect_client();
    fds[0] = all[crowd - 1];
    ck_assert_int_gt(crowd, stay);
    for (int i = 1; i < stay; i++) {
        int place = rand() % (crowd - 1);
        while (all[place] < 0)
            place = rand() % (crowd - 1);
        fds[i] = all[place];
        all[place] = -1;
    }
    for (int i = 0; i < stay; i++)
        expect(client_echo(fds[i], "in"), "of %d clients, not all are served", crowd);
    for (int i = 0; i < crowd - 1; i++) {
        if (i == crowd / 2)
            kill(server.pid, SIGSTOP);
        if (all[i] >= 0)
            client_reset(all[i]);
    }
    kill(server.pid, SIGCONT);
    free(all);
    expect_descriptors(empty + stay, "most clients left");
}

/* Has this process, and the programs it starts from now on, run on one CPU: to wake somebody on
 * another one may cost the server more than all the rest of an echo, and one never knows when. */
static void stay_on_one_cpu(void)
{
#ifdef __linux__
    unsigned long cpus[16] = {0}; /* a bit for each: those that we may use */
    long size = syscall(SYS_sched_getaffinity, 0, sizeof cpus, cpus);
    bool found = false;
    for (long i = 0; i < size / (long)sizeof *cpus; i++) {
        cpus[i] = found ? 0 : cpus[i] & -cpus[i]; /* the lowest one */
        found = found || cpus[i];
    }
    if (found)
        syscall(SYS_sched_setaffinity, 0, sizeof cpus, cpus);
#endif
}

/* A second server, which no crowd has ever come to, with count clients. */
static struct process start_fresh(int fds[], int count)
{
    struct process fresh = process_start_words(subject.server, "0", 0);
    expect(process_listening(&fresh) > 0, "it does not start a second time, on another port");
    for (int i = 0; i < count; i++) {
        fds[i] = client_connect(fresh.port);
        expect(client_echo(fds[i], "in"), "client %d is not served", i + 1);
    }
    return fresh;
}

/* For `stay` clients, an echo has to cost the same whether they were always alone or a crowd has
 * come and gone. In an array with holes the crowd's places are looked at for ever: 3 times as much
 * and more. Both are measured in turn, and of several rounds the least counts: what else the
 * machine does hits both. */
static void cost_is_of_those_who_stay(int stay)
{
    enum { ROUNDS = 40 };
    int fds[64] = {0}, others[64] = {0}, crowd = raise_descriptor_limit() - 200;
    double alone = 1e9, after = 1e9;
    crowd = crowd > CROWD ? CROWD : crowd;
    if (crowd < SMALL_CROWD) /* nothing to be seen */
        return;
    stay_on_one_cpu();
    roll_dice();
    start("");
    crowd_passes(fds, stay, crowd);
    struct process fresh = start_fresh(others, stay);
    for (int round = 0; round < ROUNDS && (round < 5 || after > alone * 1.5); round++) {
        double cost = echo_cost(fresh.pid, others, stay);
        alone = cost < alone ? cost : alone;
        cost = echo_cost(server.pid, fds, stay);
        after = cost < after ? cost : after;
    }
    process_end(&fresh, SIGKILL);
    expect(after < 0 || after < alone * 2,
           "with %d client%s and nobody else, an echo took %.1f us of CPU; after %d others came "
           "and left it took %.1f us: poll() or your own loop still looks at their places",
           stay, stay == 1 ? "" : "s", alone * 1e6, crowd, after * 1e6);
}

static void the_last_is_alone(void)
{
    cost_is_of_those_who_stay(1);
}

static void some_are_left(void)
{
    cost_is_of_those_who_stay(20);
}

/* A random half of 200 leaves and others come, over and over, in the midst of talk. */
static void coming_and_going(void)
{
    enum { CLIENTS = 200, ROUNDS = 10 };
    int fds[CLIENTS];
    const char *bytes = pattern((size_t)CLIENTS * 2);
    roll_dice();
    start("");
    int empty = process_descriptors(server.pid);
    for (int i = 0; i < CLIENTS; i++)
        fds[i] = connect_client();
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < CLIENTS; i++)
            client_send(fds[i], bytes + i, (size_t)i + 1);
        for (int i = 0; i < CLIENTS; i++)
            if (rand() % 2) {
                client_reset(fds[i]);
                fds[i] = -1;
            }
        for (int i = 0; i < CLIENTS; i++) {
            char back[CLIENTS];
            bool stayed = fds[i] >= 0;
            if (!stayed)
                fds[i] = connect_client();
            size_t length = stayed ? (size_t)i + 1 : 1;
            expect(stayed || client_send(fds[i], bytes + i, 1), "a client could not send");
            expect(client_receive(fds[i], back, length) && memcmp(back, bytes + i, length) == 0,
                   "in round %d, after half of %d clients left, one that %s did not get its bytes "
                   "back: does each client know its place when another has been moved, and is it "
                   "never overwritten?",
                   round + 1, CLIENTS, stayed ? "stayed" : "came then");
        }
    }
    for (int i = 0; i < CLIENTS; i++)
        client_reset(fds[i]);
    expect_descriptors(empty, "all of 200 clients left");
}

/* While the server is stopped, some leave, some send and some come: it finds all of that at once.
 */
static void all_at_once(void)
{
    enum { CLIENTS = 120, ROUNDS = 8 };
    int fds[CLIENTS];
    roll_dice();
    start("");
    int empty = process_descriptors(server.pid);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = connect_client();
        expect(client_echo(fds[i], "in"), "client %d is not served", i + 1);
    }
    for (int round = 0; round < ROUNDS; round++) {
        kill(server.pid, SIGSTOP);
        int came = 0, left = rand() % CLIENTS; /* and its neighbours, to the end of the array */
        for (int i = 0; i < CLIENTS; i++)
            if (i >= left ? rand() % 8 : rand() % 2) {
                client_reset(fds[i]);
                fds[i] = connect_client();
                came++;
            }
        for (int i = 0; i < CLIENTS; i++)
            expect(client_asks(fds[i]), "a client could not send");
        kill(server.pid, SIGCONT);
        for (int i = 0; i < CLIENTS; i++)
            expect(client_is_answered(fds[i]),
                   "when of %d clients %d left in the same moment, and as many came, one was "
                   "forgotten",
                   CLIENTS, came);
    }
    expect_descriptors(empty + CLIENTS, "many clients left and as many came");
    double share = process_cpu_share(server.pid, 0.3);
    expect(share < 0.2, "while nobody says anything the program used %.0f %% of a CPU",
           share * 100);
}

/* Who does not fit waits, while the others go on; and is served once there is a descriptor. */
static void out_of_descriptors(void)
{
    enum { CLIENTS = 60, LEAVE = 10 };
    int fds[CLIENTS], served = 0;
    struct rlimit limit, low;
    raise_descriptor_limit();
    getrlimit(RLIMIT_NOFILE, &limit);
    low = limit;
    low.rlim_cur = 40;
    setrlimit(RLIMIT_NOFILE, &low);
    start("");
    setrlimit(RLIMIT_NOFILE, &limit);
    for (int i = 0; i < CLIENTS; i++) {
        fds[i] = connect_client();
        client_asks(fds[i]);
    }
    for (; served < CLIENTS && client_has_input(fds[served], served ? 0.5 : patience()); served++)
        expect(client_is_answered(fds[served]), "client %d was not served", served + 1);
    expect(served > LEAVE && served < 40, "with room for 40 descriptors, %d clients were served",
           served);
    double share = process_cpu_share(server.pid, 0.5);
    expect(share < 0.2, "out of descriptors, the program used %.0f %% of a CPU", share * 100);
    expect(is_served(fds[served - 1]), "out of descriptors, a client that is in was not served");
    for (int i = 0; i < LEAVE; i++)
        close(fds[i]);
    for (int i = served; i < served + LEAVE; i++)
        expect(client_is_answered(fds[i]),
               "out of descriptors, %d clients left, but of those who waited only %d were served",
               LEAVE, i - served);
}

static void echoes(void)
{
    echoes_exactly("");
}

static void ends(void)
{
    ends_in_order("");
}

/* --- chat --- */

enum { LONGEST_LINE = 4096 };
enum { SOON = 6 }; /* seconds in which a line has to arrive */
static const long KIB = 1024;
static const size_t MIB = 1 << 20;

/* Connects clients and waits until all are in: a line goes to those who are. */
static void join_chat(int fds[], int count)
{
    int before = process_descriptors(server.pid);
    for (int i = 0; i < count; i++)
        fds[i] = connect_client();
    if (before < 0)
        sleep_for(0.3);
    else
        expect_descriptors(before + count, "clients came");
}

/* A line of random letters, length bytes with its newline. */
static void make_line(char *line, size_t length)
{
    for (size_t i = 0; i + 1 < length; i++)
        line[i] = (char)('a' + rand() % 26);
    line[length - 1] = '\n';
}

/* The client sends bytes, cut up at random, and gives the server time to read each piece alone. */
static void send_in_pieces(int fd, const char *bytes, size_t length)
{
    for (size_t sent = 0; sent < length;) {
        size_t piece = random_size(1, length - sent);
        expect(client_send(fd, bytes + sent, piece), "a client could not send: it was closed");
        sent += piece;
        sleep_for(0.003);
    }
}

/* True if these bytes are the next that the client gets, each soon after the one before. */
static bool hears(int fd, const char *bytes, size_t length)
{
    char back[16 * 1024];
    for (size_t got = 0; got < length;) {
        size_t room = length - got < sizeof back ? length - got : sizeof back;
        if (!client_has_input(fd, SOON))
            return false;
        ssize_t n = recv(fd, back, room, MSG_DONTWAIT);
        if (n <= 0 || memcmp(back, bytes + got, (size_t)n) != 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

/* The connection has ended, in order or by a reset; what came before that is thrown away. */
static bool ends_soon(int fd)
{
    char rest[16 * 1024];
    while (client_has_input(fd, SOON))
        if (recv(fd, rest, sizeof rest, 0) <= 0)
            return true;
    return false;
}

static void expect_silence(const int fds[], int count, const char *when)
{
    sleep_for(0.1);
    for (int i = 0; i < count; i++)
        expect(!client_has_input(fds[i], 0),
               "%s, client %d got bytes (or its end) that are not for it", when, i + 1);
}

static void all_others_hear(void)
{
    enum { CLIENTS = 5, ROUNDS = 40 };
    int fds[CLIENTS];
    char line[200];
    roll_dice();
    start("");
    join_chat(fds, CLIENTS);
    for (int round = 0; round < ROUNDS; round++) {
        int speaker = rand() % CLIENTS;
        size_t length = random_size(1, sizeof line);
        make_line(line, length);
        expect(client_send(fds[speaker], line, length), "a client could not send a line");
        for (int i = 0; i < CLIENTS; i++)
            expect(i == speaker || hears(fds[i], line, length),
                   "client %d of %d sent a line of %zu bytes, but client %d did not get just that",
                   speaker + 1, CLIENTS, length, i + 1);
        expect(!client_has_input(fds[speaker], 0),
               "a client sent a line, and got it back itself: it is for the others");
    }
    expect_silence(fds, CLIENTS, "after all lines had been heard");
}

/* Two speak at the same time, a piece of one's line between two pieces of the other's. */
static void two_interleaved(int a, int b, int listener)
{
    char mine[600], yours[600];
    size_t length[2] = {random_size(3, sizeof mine), random_size(2, sizeof yours)};
    size_t cut = random_size(1, length[0] - 2), again = random_size(cut + 1, length[0] - 1);
    size_t your_cut = random_size(1, length[1] - 1);
    make_line(mine, length[0]);
    make_line(yours, length[1]);
    client_send(a, mine, cut);
    sleep_for(0.01);
    client_send(b, yours, your_cut);
    sleep_for(0.01);
    client_send(a, mine + cut, again - cut);
    sleep_for(0.01);
    expect(!client_has_input(listener, 0),
           "two clients have sent the beginnings of their lines, and a third one got bytes: lines "
           "are for others once they are complete");
    client_send(b, yours + your_cut, length[1] - your_cut);
    expect(hears(listener, yours, length[1]) && hears(a, yours, length[1]),
           "two clients sent their lines in pieces, taking turns: the one that was complete first "
           "did not arrive whole");
    client_send(a, mine + again, length[0] - again);
    expect(hears(listener, mine, length[0]) && hears(b, mine, length[0]),
           "two clients sent their lines in pieces, taking turns: the one that was complete last "
           "did not arrive whole");
}

/* Many lines and the beginning of one more, with one send(); then the rest of that one. */
static void many_in_one_send(int speaker, const int others[], int count)
{
    static char lines[40 * 300];
    size_t length = 0, last = 0;
    for (int i = (int)random_size(2, 40); i > 0; i--) {
        last = random_size(2, 300);
        make_line(lines + length, last);
        length += last;
    }
    size_t rest = random_size(1, last - 1);
    client_send(speaker, lines, length - rest);
    for (int i = 0; i < count; i++)
        expect(hears(others[i], lines, length - last),
               "many lines came with one send(), and the beginning of another: not all of those "
               "that were complete (%zu bytes) went to everybody",
               length - last);
    sleep_for(0.01);
    expect(!client_has_input(others[0], 0), "the beginning of a line went out without its end");
    client_send(speaker, lines + length - rest, rest);
    for (int i = 0; i < count; i++)
        expect(hears(others[i], lines + length - last, last),
               "the beginning of a line came behind other lines, its end later: it did not go out "
               "whole");
}

static void lines_stay_whole(void)
{
    int fds[3];
    char line[500];
    roll_dice();
    start("");
    join_chat(fds, 3);
    for (int round = 0; round < 10; round++) {
        size_t length = random_size(2, sizeof line);
        make_line(line, length);
        send_in_pieces(fds[0], line, length);
        expect(hears(fds[1], line, length) && hears(fds[2], line, length),
               "a line of %zu bytes came in pieces, but did not go out whole", length);
        two_interleaved(fds[0], fds[1], fds[2]);
        many_in_one_send(fds[0], fds + 1, 2);
    }
    expect_silence(fds, 3, "after all lines had been heard");
}

/* --- chat: a hundred at once --- */

enum { TALKERS = 100, LINES = 10 };

/* What one says (its lines, each with its name and a number), and what it has heard. */
struct talker {
    int fd;
    char says[LINES * 100];
    size_t length, sent;
    char *heard;
    size_t received, expected; /* the latter is what all others say */
};

static void prepare_talkers(struct talker talkers[])
{
    int fds[TALKERS];
    size_t all = 0;
    join_chat(fds, TALKERS);
    for (int i = 0; i < TALKERS; i++) {
        struct talker *talker = &talkers[i];
        *talker = (struct talker){.fd = fds[i]};
        for (int n = 0; n < LINES; n++) {
            size_t head = (size_t)sprintf(talker->says + talker->length, "%02d %02d ", i, n);
            size_t tail = random_size(1, 80);
            make_line(talker->says + talker->length + head, tail);
            talker->length += head + tail;
        }
        all += talker->length;
    }
    for (int i = 0; i < TALKERS; i++) {
        talkers[i].expected = all - talkers[i].length;
        talkers[i].heard = malloc(all + 1);
        ck_assert_ptr_nonnull(talkers[i].heard);
    }
}

/* One more piece, if there is one, and all that is there to be heard. Returns how much that was. */
static size_t talk_and_listen(struct talker *talker)
{
    size_t before = talker->received, left = talker->length - talker->sent;
    size_t piece = left > 0 ? random_size(1, left < 150 ? left : 150) : 0;
    expect(client_send(talker->fd, talker->says + talker->sent, piece),
           "one of %d clients who talk was closed", TALKERS);
    talker->sent += piece;
    for (ssize_t n; (n = recv(talker->fd, talker->heard + talker->received,
                              talker->expected + 1 - talker->received, MSG_DONTWAIT)) > 0;)
        talker->received += (size_t)n;
    return talker->received - before + piece;
}

/* Takes apart what one has heard: of each other one the lines 0, 1, 2, ... as it said them. */
static void expect_all_heard(const struct talker talkers[], int self)
{
    const char *place[TALKERS]; /* what each is to say next */
    const struct talker *listener = &talkers[self];
    for (int i = 0; i < TALKERS; i++)
        place[i] = talkers[i].says;
    listener->heard[listener->received] = '\0';
    for (const char *line = listener->heard; *line; line = strchr(line, '\n') + 1) {
        const char *end = strchr(line, '\n');
        int who = (int)strtol(line, NULL, 10) % TALKERS;
        size_t length = end ? (size_t)(end - line) + 1 : 0;
        expect(who >= 0 && who != self && end && strncmp(line, place[who], length) == 0,
               "while %d clients talked, one heard '%.100s' where another's line was to be whole, "
               "and behind the one that it said before",
               TALKERS, line);
        place[who] += length;
    }
    expect(listener->received == listener->expected,
           "while %d clients talked, one heard %zu bytes of %zu", TALKERS, listener->received,
           listener->expected);
}

static void a_hundred_talk_at_once(void)
{
    static struct talker talkers[TALKERS];
    roll_dice();
    start("");
    prepare_talkers(talkers);
    for (double last = now(); now() < last + SOON;) {
        size_t moved = 0, missing = 0;
        for (int i = 0; i < TALKERS; i++) {
            moved += talk_and_listen(&talkers[i]);
            missing += talkers[i].expected - talkers[i].received;
        }
        if (missing == 0)
            break;
        if (moved > 0)
            last = now();
        else
            sleep_for(0.005);
    }
    for (int i = 0; i < TALKERS; i++)
        expect_all_heard(talkers, i);
}

/* --- chat: the limits --- */

static void long_lines_end_their_sender(void)
{
    int fds[5];
    char line[3 * LONGEST_LINE];
    roll_dice();
    start("");
    join_chat(fds, 5);
    make_line(line, LONGEST_LINE);
    client_send(fds[0], line, LONGEST_LINE);
    expect(hears(fds[4], line, LONGEST_LINE),
           "a line of 4096 bytes, newline included, did not go out");
    make_line(line, LONGEST_LINE);
    send_in_pieces(fds[0], line, LONGEST_LINE);
    expect(hears(fds[4], line, LONGEST_LINE),
           "a line of 4096 bytes, sent in pieces, did not go out");

    size_t too_long = random_size(LONGEST_LINE + 1, sizeof line - 10);
    for (int i = 1; i <= 3; i++) { /* without a newline; with one; and behind a short line */
        size_t before = i == 3 ? 10 : 0, length = i == 1 ? too_long : LONGEST_LINE + 1;
        make_line(line, 10);
        make_line(line + before, length);
        if (i == 1)
            line[length - 1] = 'x';
        if (client_send(fds[i], line, before + 2000)) {
            sleep_for(0.01);
            client_send(fds[i], line + before + 2000, length - 2000);
        }
        expect(ends_soon(fds[i]), "a client sent %zu bytes %s, but it was not closed", length,
               i == 1 ? "without a newline" : "up to a newline");
        expect(hears(fds[4], line, before),
               "a line in front of one that is too long did not go out");
    }
    expect_silence(fds + 4, 1, "after lines of more than 4096 bytes");
    client_send(fds[0], "on\n", 3);
    expect(hears(fds[4], "on\n", 3), "after others were closed, a line did not go out");
}

/* What the server's kernel still holds of what was sent to this client; -1 if the system does not
 * tell. */
static long kernel_holds(int fd)
{
    struct sockaddr_in self;
    socklen_t size = sizeof self;
    char text[512];
    long bytes = -1;
    if (getsockname(fd, (struct sockaddr *)&self, &size) < 0)
        return -1;
    FILE *file = fopen("/proc/net/tcp", "r");
    while (file && fgets(text, sizeof text, file)) {
        unsigned local, remote;
        unsigned long queue;
        if (sscanf(text, "%*d: %*x:%x %*x:%x %*x %lx:", &local, &remote, &queue) == 3 &&
            local == (unsigned)server.port && remote == ntohs(self.sin_port))
            bytes = (long)queue;
    }
    if (file)
        fclose(file);
    return bytes;
}

/* Of `sent` bytes for a client that has read none, what is still owed in the server's own memory;
 * -1 where the system does not tell. What has come and is not acknowledged is counted twice. */
static long still_owed(int fd, size_t sent)
{
    int arrived = 0;
    long held = kernel_holds(fd);
    if (held < 0 || ioctl(fd, FIONREAD, &arrived) < 0)
        return -1;
    long owed = (long)sent - held - arrived;
    return owed > 0 ? owed : 0;
}

enum { SHARE = 256 * 1024 };

/* One client that does not read while another speaks and a third listens. */
struct talk {
    int slow, speaker, listener, other;
    int descriptors;   /* the server's, while all are in */
    long owed;         /* to the slow one: what was seen last */
    size_t shares;     /* how many times these lines have been said: */
    char lines[SHARE]; /* of 4 KiB each */
};

static struct talk *begin_talk(void)
{
    static struct talk talk;
    int fds[4];
    roll_dice();
    start("");
    join_chat(fds, 4);
    talk = (struct talk){.slow = fds[3], .speaker = fds[0], .listener = fds[1], .other = fds[2]};
    talk.descriptors = process_descriptors(server.pid);
    for (size_t i = 0; i < SHARE; i += LONGEST_LINE)
        make_line(talk.lines + i, LONGEST_LINE);
    return &talk;
}

/* The slow client itself does not see it: the end comes behind all that the kernel still holds. */
static bool slow_is_closed(const struct talk *talk)
{
    struct pollfd look = {.fd = talk->slow};
    if (talk->descriptors >= 0)
        return process_descriptors(server.pid) < talk->descriptors;
    return poll(&look, 1, 0) == 1 && look.revents & (POLLHUP | POLLERR);
}

/* Talks until the slow one is owed `wanted` KiB, or is closed, or 64 MiB have been said. Where the
 * system does not tell what is owed: until 1 MiB has been said, if less than that is wanted. */
static void talk_on(struct talk *talk, long wanted)
{
    for (; talk->shares * SHARE < 64 * MIB; talk->shares++) {
        long owed = talk->shares > 0 ? still_owed(talk->slow, talk->shares * SHARE) : 0;
        if (owed >= wanted * KIB) { /* or still on its way: look again */
            sleep_for(0.1);
            owed = still_owed(talk->slow, talk->shares * SHARE);
        }
        if (slow_is_closed(talk))
            break;
        talk->owed = owed;
        if (owed < 0 ? wanted < KIB && talk->shares * SHARE >= MIB : owed >= wanted * KIB)
            break;
        expect(
            client_send(talk->speaker, talk->lines, SHARE) &&
                hears(talk->listener, talk->lines, SHARE) && hears(talk->other, talk->lines, SHARE),
            "while one client did not read, another did not get a line within %d s, after %zu KiB "
            "that it had got: nobody has to wait for it",
            SOON, talk->shares * SHARE / 1024);
    }
}

static void who_does_not_read_is_closed(void)
{
    struct talk *talk = begin_talk();
    talk_on(talk, 1536);
    for (double end = now() + 2; !slow_is_closed(talk) && now() < end;)
        sleep_for(0.02);
    expect(talk->descriptors < 0 || slow_is_closed(talk),
           "a client that reads nothing was owed %ld KiB, and not closed: more than 1 MiB is too "
           "much",
           talk->owed / KIB);
    expect(talk->owed < 0 || talk->owed >= 512 * KIB,
           "a client that read nothing was closed when it was owed only about %ld KiB: up to 1 MiB "
           "is kept for it",
           talk->owed / KIB);
    for (int i = 0; i < 10; i++) {
        client_send(talk->speaker, talk->lines, LONGEST_LINE);
        expect(hears(talk->listener, talk->lines, LONGEST_LINE),
               "after a client was closed because it did not read, the others did not go on");
    }
    expect(ends_soon(talk->slow),
           "a client that was closed because it did not read, and read then, "
           "saw no end");
}

static void expect_sleep(const char *when)
{
    double share = process_cpu_share(server.pid, 0.3);
    expect(share < 0.2, "%s the program used %.0f %% of a CPU: which events does it ask for?", when,
           share * 100);
}

static void slow_hears(const struct talk *talk, size_t from, size_t to, const char *what)
{
    for (size_t i = from; i < to; i++)
        expect(hears(talk->slow, talk->lines, SHARE),
               "a client %s while %zu KiB were said: the first %zu KiB of it came unchanged then, "
               "but after that (within %d KiB) bytes were missing or wrong",
               what, talk->shares * SHARE / 1024, i * SHARE / 1024, SHARE / 1024);
}

/* Who has not read for a while gets all of it later, and then is like the others. What is said
 * while it catches up comes behind all that it is owed: the server finds both in the same round. */
static void who_pauses_misses_nothing(void)
{
    struct talk *talk = begin_talk();
    talk_on(talk, 400);
    expect(!slow_is_closed(talk),
           "a client that paused was closed, though it was owed not much more than %ld KiB",
           talk->owed / KIB);
    expect_sleep("while a client was owed bytes and did not read");
    client_send(talk->slow, "wait\n", 5);
    expect(hears(talk->listener, "wait\n", 5),
           "a client that is owed bytes spoke, and was not heard");
    kill(server.pid, SIGSTOP);
    slow_hears(talk, 0, talk->shares / 2, "paused");
    client_send(talk->speaker, "on\n", 3);
    kill(server.pid, SIGCONT);
    slow_hears(talk, talk->shares / 2, talk->shares, "paused");
    expect(hears(talk->slow, "on\n", 3), "after a pause a client did not get the next line");
    expect_sleep("after all bytes had been taken");
}

static void who_half_closes_gets_the_rest(void)
{
    struct talk *talk = begin_talk();
    client_send(talk->other, talk->lines, LONGEST_LINE);
    client_send(talk->other, "no end", 6);
    shutdown(talk->other, SHUT_WR);
    expect(hears(talk->listener, talk->lines, LONGEST_LINE) &&
               hears(talk->slow, talk->lines, LONGEST_LINE) &&
               hears(talk->speaker, talk->lines, LONGEST_LINE),
           "a client said a line and half-closed: the line did not go to all others");
    expect(ends_soon(talk->other),
           "a client that was owed nothing half-closed, and was not closed");
    expect_silence(&talk->listener, 1, "after somebody left in the middle of a line");

    int fds[1];
    join_chat(fds, 1);
    talk->other = fds[0];
    talk_on(talk, 400);
    shutdown(talk->slow, SHUT_WR);
    expect_sleep("while a client that has half-closed was owed bytes");
    slow_hears(talk, 0, talk->shares, "did not read and half-closed");
    expect(client_has_input(talk->slow, SOON) && client_at_eof(talk->slow),
           "a client that had half-closed got what it was owed, but no end of file behind it");
}

/* --- chat: the end --- */

static void expect_totals(int clients, size_t bytes)
{
    char totals[128];
    int status = process_end(&server, SIGTERM);
    expect(status == 0, "after SIGTERM the exit status was %d, and not 0; stderr: %.200s", status,
           server.errors);
    snprintf(totals, sizeof totals, "\nserved %d clients, %zu bytes\n", clients, bytes);
    expect(
        strstr(server.output, totals),
        "at the end '%.*s' was expected on stdout, the bytes that went out, but there was '%.200s'",
        (int)strlen(totals) - 2, totals + 1, server.output);
}

static void bytes_out_are_counted(void)
{
    enum { CLIENTS = 4 };
    int fds[CLIENTS];
    char line[1000];
    size_t bytes = 0;
    roll_dice();
    start("");
    join_chat(fds, CLIENTS);
    for (int round = 0; round < 10; round++) {
        size_t length = random_size(1, sizeof line);
        make_line(line, length);
        client_send(fds[round % CLIENTS], line, length);
        for (int i = 0; i < CLIENTS; i++)
            expect(i == round % CLIENTS || hears(fds[i], line, length),
                   "a line did not go to all other clients");
        bytes += (CLIENTS - 1) * length;
    }
    expect_totals(CLIENTS, bytes);
}

const struct exercise exercises_04[] = {
    {"04-poll/swap",
     45,
     false,
     {{"a crowd that has left costs the last one nothing", the_last_is_alone, 3, false},
      {"nor twenty who are left, from anywhere", some_are_left, 2, false},
      {"who stays is served while others come and go", coming_and_going, 1, true},
      {"nobody is forgotten when many leave at once", all_at_once, 1, true},
      {"out of descriptors, the others wait", out_of_descriptors, 1, true},
      {"bytes come back exactly", echoes, 1, true},
      {"it ends in order", ends, 1, true}}},
    {"04-poll/chat",
     120,
     false,
     {{"a line goes to all others, not back", all_others_hear, 3, false},
      {"lines stay whole, however they are cut", lines_stay_whole, 4, false},
      {"a hundred clients talk at once", a_hundred_talk_at_once, 3, false},
      {"a line that is too long ends its sender", long_lines_end_their_sender, 2, false},
      {"who does not read is closed, nobody waits", who_does_not_read_is_closed, 3, false},
      {"who pauses misses nothing", who_pauses_misses_nothing, 2, false},
      {"who half-closes gets the rest", who_half_closes_gets_the_rest, 2, false},
      {"the bytes that went out are counted", bytes_out_are_counted, 1, false}}},
    {0}};
