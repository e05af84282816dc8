# `make help` lists what can be made.

CFLAGS ?= -O2 -g
WARNINGS := -Wall -Wextra -Wpedantic -Wshadow -Wconversion
# SAN=address,undefined or SAN=thread builds everything apart, under build/$(SAN), with sanitizers.
BUILD := build$(if $(SAN),/$(SAN))
SANITIZE := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all)
COMPILE = $(CC) -std=gnu11 $(CFLAGS) $(WARNINGS) $(SANITIZE) $(CPPFLAGS)
INCLUDE = # -I of a target, LIBS: what it is linked with
LIBS =
PKG_CONFIG ?= pkg-config
export MAKE # GNU make has other names on the BSDs: scripts call it by this one
LINK = $(CC) $(CFLAGS) $(SANITIZE) $(LDFLAGS)
# Short lines unless V=1: what is being built.
say = $(if $(V),,@printf '  %-5s %s\n' $(1) '$@';)

# epoll is Linux's own; kqueue, which 06 and later use, is made of it there.
ifeq ($(shell uname),Linux)
CHAPTERS := $(wildcard 0[1-9]-*)
ifdef KQUEUE # make KQUEUE=libkqueue: of the library of that name instead
KQUEUE_CPPFLAGS := $(shell $(PKG_CONFIG) --cflags $(KQUEUE))
KQUEUE_LIBS := $(or $(shell $(PKG_CONFIG) --libs $(KQUEUE)),$(error no $(KQUEUE) here))
else
KQUEUE_CPPFLAGS := -I06-kqueue/compat
KQUEUE_OBJECT := $(BUILD)/06-kqueue/compat/kqueue.o
endif
else
CHAPTERS := $(filter-out 05-epoll,$(wildcard 0[1-9]-*))
endif
KQUEUE_CHAPTERS := $(filter-out 01% 02% 03% 04% 05%,$(CHAPTERS))
# The finished programs lie in their chapters (sanitized ones under build/), objects under build/.
IN := $(if $(SAN),$(BUILD)/)
# musl has no ucontext, which coroutines need; and its FD_SET() mixes signed and unsigned numbers.
UCONTEXT := $(shell echo 'int swapcontext(void); int main(void) { return swapcontext(); }' | \
              $(CC) $(LDFLAGS) -w -x c - -o /dev/null $(LDLIBS) 2> /dev/null && echo yes)
WARNINGS += $(if $(UCONTEXT),,-Wno-sign-conversion)
AWAIT := $(if $(UCONTEXT),$(patsubst %.c,$(IN)%,$(wildcard 07-event-loop/coroutines/await_*.c)))
PROGRAMS := $(foreach c,$(CHAPTERS),$(IN)$(c)/server) $(AWAIT) \
            $(patsubst %.c,$(IN)%,$(wildcard 0[1-9]-*/client.c))
TOOLS := $(BUILD)/tests/demo $(BUILD)/tests/slow-peer
SUITE := $(BUILD)/tests/suite
UNITS := $(addprefix $(BUILD)/tests/test_,kqueue loop http http_clients $(if $(UCONTEXT),coroutine) \
           threadpool procpool)
# uv_echo is built where libuv is.
UV := $(if $(wildcard /usr/include/uv.h /usr/local/include/uv.h /opt/homebrew/include/uv.h),yes)
BENCH := $(addprefix $(BUILD)/bench/,bench floor http_floor trips uv_echo)

# CH=05 or 05-epoll; EX=edge, 05/edge or 05-epoll/edge. If that is not one of them: which there are.
pick = $(if $(filter 1,$(words $(2))),$(2),$(error $(1): which one? $(or $(2),$(3))))
chapters = $(foreach c,$($(1):/=),$(call pick,$(1)=$(c),$(filter $(c) $(c)-% 0$(c)-%,$(CHAPTERS)),$(CHAPTERS)))
one_chapter = $(call pick,$(1),$(call chapters,$(1)),$(CHAPTERS))
exercises = $(filter-out $(if $(UCONTEXT),,%/deadline %/gather),$\
	$(subst /$(1)/,/,$(basename $(sort $(wildcard $(addsuffix /$(1)/*.c,$(CHAPTERS)))))))
ifneq ($(CH),)
override CH := $(call chapters,CH)
endif
ifneq ($(EX),)
override EX := $(foreach e,$(EX),$(call pick,EX=$(e),$\
	$(filter $(e) %/$(e) $(subst /,-%/,$(e)),$(call exercises,exercises)),$(call exercises,exercises)))
endif

all: $(PROGRAMS)
	$(if $(AWAIT),,@echo '  coroutines: left out, this C library has no ucontext')

help:
	@echo 'make                            builds every chapter'
	@echo '     CC=clang, CC=musl-gcc      with another compiler, or another C library'
	@echo 'make demo                       runs every chapter against the same clients and draws it'
	@echo 'make test                       proves the repository right (installs Check if missing)'
	@echo '     CH=05                      one chapter only (CH=05-epoll is the same)'
	@echo '     SERVER=path CH=05          your own program against the suite of the chapter'
	@echo '     SAN=address,undefined      with sanitizers; also SAN=thread'
	@echo '     KQUEUE=libkqueue           builds with that library in place of 06-kqueue/compat'
	@echo 'make prove                      refuses servers system calls and memory (needs strace)'
	@echo '     FAULTS=all                 each call, error and allocation, which takes an hour'
	@echo 'make run CH=05 PORT=8000        runs one chapter (ARGS=--edge: with these options)'
	@echo '     EX=05/edge                 an exercise: what you have made of it'
	@echo 'make diff FROM=03 TO=04         what one chapter changes in the one before'
	@echo 'make grade                      checks your exercises: points, and what is missing'
	@echo '     CH=05                      one chapter only; EX=05/edge: one exercise'
	@echo '     SUBMISSION=dir             those of another checkout; STRICT=1: fails if points are missing'
	@echo 'make student DIR=somewhere      a copy of it all without the solutions, to hand out'
	@echo 'make carry                      copies the modules of 07 to 08 and on to 09'
	@echo 'make bench                      throughput and cost, beside a bare epoll loop and libuv'
	@echo 'make fuzz                       throws bytes and conversations at parser and servers (needs clang)'
	@echo 'make lint, make format          checks, or mends, how the code is written'
	@echo 'make clean                      removes all that was built'

# --- building ---

# A stamp that changes when the compiler or its flags do: then everything is built again.
FLAGS := $(BUILD)/flags
$(FLAGS): FORCE
	@mkdir -p $(@D); echo '$(COMPILE) $(LINK)' | cmp -s - $@ || echo '$(COMPILE) $(LINK)' > $@

$(BUILD)/%.o: %.c $(FLAGS)
	$(call say,CC) mkdir -p $(@D); $(COMPILE) $(INCLUDE) -MMD -MP -c -o $@ $<

# A chapter's server is all the chapter's sources but client.c.
objects = $(patsubst %.c,$(BUILD)/%.o,$(filter-out %/client.c,$(wildcard $(1))))
define chapter
$(IN)$(1)/server: $(call objects,$(1)/*.c)
endef
$(foreach c,$(CHAPTERS),$(eval $(call chapter,$(c))))
$(filter %/client,$(PROGRAMS)): $(IN)%/client: $(BUILD)/%/client.o

LOOP := $(call objects,07-event-loop/loop.c 07-event-loop/backend_*.c) $(KQUEUE_OBJECT)
COROUTINE := $(BUILD)/07-event-loop/coroutines/coroutine.o
$(AWAIT): $(IN)%: $(BUILD)/%.o $(COROUTINE) $(LOOP)
$(BUILD)/07-event-loop/coroutines/%.o: INCLUDE += -I07-event-loop

# What uses kqueue: its headers, and what it is made of.
$(foreach c,$(KQUEUE_CHAPTERS),$(BUILD)/$(c)/%.o) $(BUILD)/tests/test_kqueue.o: \
	INCLUDE += $(KQUEUE_CPPFLAGS)
$(foreach c,$(KQUEUE_CHAPTERS),$(IN)$(c)/server): $(KQUEUE_OBJECT)
$(foreach c,$(KQUEUE_CHAPTERS),$(IN)$(c)/server) $(AWAIT) $(UNITS): LIBS += $(KQUEUE_LIBS)

$(BUILD)/tests/demo: $(BUILD)/tests/demo.o $(BUILD)/tests/harness.o
$(BUILD)/tests/slow-peer: $(BUILD)/tests/slow_peer.o

# The suite that runs programs, and those that call functions. All of them need Check, and so does
# the grader; the clients they are made of do not.
CLIENTS := $(addprefix $(BUILD)/tests/,harness.o http_client.o)
SUITE_OBJECTS := $(addprefix $(BUILD)/tests/,suite.o subject.o endpoints.o $(addprefix test_,every_server.o \
                   start_end.o echo.o lessons.o clients.o http_syntax.o http_server.o event_loop.o fetch.o \
                   pool_server.o offload_server.o matrix.o))
$(SUITE): $(SUITE_OBJECTS) $(CLIENTS)
$(UNITS): %: %.o $(BUILD)/tests/harness.o # test_http includes http.c
$(BUILD)/tests/test_kqueue: $(KQUEUE_OBJECT)
$(BUILD)/tests/test_loop: $(LOOP)
$(BUILD)/tests/test_http_clients: $(BUILD)/07-event-loop/http.o $(LOOP) # includes http_server.c
$(BUILD)/tests/test_coroutine: $(COROUTINE) $(LOOP)
$(BUILD)/tests/test_threadpool: $(BUILD)/08-threadpool/threadpool.o $(LOOP)
$(BUILD)/tests/test_procpool: $(addprefix $(BUILD)/09-cpu-offload/,procpool.o worker.o) $(LOOP)
$(addsuffix .o,$(UNITS)): INCLUDE += -I07-event-loop -I08-threadpool -I09-cpu-offload

# What refuses servers system calls and memory.
FAULT_TESTS := $(BUILD)/tests/faults
FAULT_OBJECTS := $(addprefix $(BUILD)/tests/,faults.o subject.o)
$(FAULT_TESTS): $(FAULT_OBJECTS) $(CLIENTS)
$(BUILD)/tests/faults_alloc.so: tests/faults_alloc.c $(FLAGS)
	$(call say,CC) mkdir -p $(@D); $(CC) -std=gnu11 $(CFLAGS) $(WARNINGS) -shared -fPIC -o $@ $< -ldl

# The grader, and for each chapter a kit: what the exercises may use of it, as headers and a library.
GRADE := $(BUILD)/tests/grade
GRADE_OBJECTS := $(patsubst %.c,$(BUILD)/%.o,$(wildcard tests/exercises/*.c)) $(BUILD)/tests/subject.o
$(GRADE): $(GRADE_OBJECTS) $(CLIENTS)
KITS := $(patsubst %,$(BUILD)/kit/%/chapter.a,$(filter-out 01% 02% 03% 04% 05%,$(CHAPTERS)))
define kit
$(BUILD)/kit/$(1)/chapter.a: $(call objects,$(1)/*.c) $(KQUEUE_OBJECT) \
	$(if $(filter 07%,$(1)),$(COROUTINE)) $(wildcard $(1)/exercises/*.h)
endef
$(foreach c,$(filter-out 01% 02% 03% 04% 05%,$(CHAPTERS)),$(eval $(call kit,$(c))))
$(KITS): $(BUILD)/kit/%/chapter.a:
	$(call say,AR) rm -rf $(@D); mkdir -p $(@D)
	@cp -R $(wildcard $*/*.h $*/exercises/*.h $*/coroutines/*.h $(if $(KQUEUE_OBJECT),06-kqueue/compat/sys)) $(@D)
	@ar rcs $@ $(filter %.o,$^)

# An exercise is one file, and what it needs of its chapter's kit. build/exercises/05-epoll/edge is
# what the reader has made of it, build/solutions/05-epoll/edge our answer.
EXERCISES := $(addprefix $(BUILD)/exercises/,$(call exercises,exercises))
SOLUTIONS := $(addprefix $(BUILD)/solutions/,$(call exercises,solutions))
define one_file
$(BUILD)/$(1)/$(2): $(dir $(2))$(1)/$(notdir $(2)).c $(FLAGS) $(filter $(BUILD)/kit/$(dir $(2))%,$(KITS))
	$$(call say,CC) mkdir -p $$(@D); $$(COMPILE) $$(LDFLAGS) \
		-I$(BUILD)/kit/$(dir $(2)) -o $$@ $$(filter-out $$(FLAGS),$$^) -pthread
endef
$(foreach e,$(EXERCISES),$(eval $(call one_file,exercises,$(e:$(BUILD)/exercises/%=%))))
$(foreach e,$(SOLUTIONS),$(eval $(call one_file,solutions,$(e:$(BUILD)/solutions/%=%))))
exercises: $(EXERCISES) $(SOLUTIONS)
# Fuzzers: two that call functions, and one that talks to servers, which have sanitizers.
FUZZ := build/fuzz_http build/fuzz_values
build/fuzz_http: tests/fuzz_http.c 07-event-loop/http.c
build/fuzz_values: tests/fuzz_values.c tests/http_client.c tests/harness.c \
	$(filter-out %/server.c,$(wildcard 09-cpu-offload/*.c)) $(KQUEUE_OBJECT:$(BUILD)/%.o=%.c)
$(FUZZ): $(wildcard 0[79]-*/*.h) 09-cpu-offload/server.c # which fuzz_values includes
	$(call say,CLANG) mkdir -p $(@D); clang -std=gnu11 -O1 -g -fsanitize=fuzzer,address,undefined \
		-fno-sanitize-recover=all $(KQUEUE_CPPFLAGS) -o $@ $(filter-out %.h %/server.c,$^) -pthread
FUZZ_SERVERS := $(foreach c,$(filter 07% 08% 09%,$(CHAPTERS)),build/address,undefined/$(c)/server)
$(BUILD)/fuzz_conversations: $(BUILD)/tests/fuzz_conversations.o $(BUILD)/tests/endpoints.o $(CLIENTS)
$(SUITE_OBJECTS) $(GRADE_OBJECTS) $(FAULT_OBJECTS) $(addsuffix .o,$(UNITS)): INCLUDE += $(shell $(PKG_CONFIG) --cflags check 2> /dev/null)
$(SUITE_OBJECTS) $(GRADE_OBJECTS) $(FAULT_OBJECTS) $(addsuffix .o,$(UNITS)): | check-library
$(SUITE) $(UNITS) $(GRADE) $(FAULT_TESTS): LIBS += $(shell $(PKG_CONFIG) --libs check 2> /dev/null || echo -lcheck)
$(BENCH): $(BUILD)/bench/%: $(BUILD)/tests/bench/%.o
$(BUILD)/bench/bench: $(addprefix $(BUILD)/tests/,harness.o bench/load.o)
$(BUILD)/bench/bench: LIBS += -lm
$(BUILD)/bench/trips: $(BUILD)/tests/harness.o $(BUILD)/08-threadpool/threadpool.o $(LOOP) \
	$(addprefix $(BUILD)/09-cpu-offload/,procpool.o worker.o)
$(BUILD)/bench/trips: LIBS += $(if $(UV),-luv)
$(BUILD)/tests/bench/trips.o: INCLUDE += -I07-event-loop
$(BUILD)/bench/uv_echo: LIBS += -luv

$(PROGRAMS) $(TOOLS) $(SUITE) $(UNITS) $(GRADE) $(BENCH) $(FAULT_TESTS) $(BUILD)/fuzz_conversations:
	$(call say,LD) mkdir -p $(@D); $(LINK) -o $@ $^ $(LIBS) $(LDLIBS) -pthread

# The one thing that `make test` installs when it is missing.
check-library:
	@COMPILE='$(COMPILE)' PKG_CONFIG='$(PKG_CONFIG)' sh tests/install_check.sh

# --- what the reader runs ---

run: $(if $(CH)$(EX),all) $(if $(EX),$(BUILD)/exercises/$(EX))
	@$(if $(EX),$(BUILD)/exercises/$(EX),$(IN)$(call one_chapter,CH)/server) $(ARGS) $(PORT)

diff:
	@diff -u $(call one_chapter,FROM)/server.c $(call one_chapter,TO)/server.c || test $$? -eq 1

# 07 to 09 are complete folders: what a chapter takes over from the one before is the same file.
LOOP_FILES := loop.h loop.c backend.h $(notdir $(wildcard 07-event-loop/backend_*.c)) \
              http.h http.c http_server.h http_server.c fetch.h fetch.c
POOL_FILES := threadpool.h threadpool.c files.h files.c
carry:
	@cp $(addprefix 07-event-loop/,$(LOOP_FILES)) 08-threadpool
	@cp 07-event-loop/exercises/setup.h 08-threadpool/exercises
	@cp 07-event-loop/exercises/setup.h 09-cpu-offload/exercises
	@cp $(addprefix 08-threadpool/,$(LOOP_FILES) $(POOL_FILES)) 09-cpu-offload
	@sh tests/page.sh 09-cpu-offload/page.html > 09-cpu-offload/page.c

demo: all $(TOOLS)
	@$(BUILD)/tests/demo

test: all $(TOOLS) $(SUITE) $(UNITS) $(GRADE) $(KITS) \
	$(if $(SERVER),,$(filter $(BUILD)/solutions/$(or $(CH),0)%,$(SOLUTIONS)))
	@$(GRADE_WITH) CH='$(CH)' SERVER='$(SERVER)' SAN='$(SAN)' BUILD='$(BUILD)' IN='$(IN)' sh tests/run.sh

# What takes longer, or needs more. FAULTS=all: each fault, and not a share of them.
prove: all $(FAULT_TESTS) $(BUILD)/tests/faults_alloc.so
	@PROVE=1 CH='$(CH)' BUILD='$(BUILD)' IN='$(IN)' sh tests/run.sh

# Builds and checks the reader's exercises, or those of another checkout (SUBMISSION=dir).
GRADE_WITH = GRADE_CC='$(COMPILE)' RACING_CC='$(CC) -std=gnu11 -O1 -g -fsanitize=thread'
grade: $(GRADE) $(KITS)
	@$(GRADE_WITH) SAN='$(SAN)' BUILD='$(BUILD)' exec $(GRADE) $(if $(STRICT),--strict) $(if $(SUBMISSION),--submission \
		'$(SUBMISSION)') $(if $(filter 1 solutions,$(PROVE)),--prove-solutions) \
		$(if $(filter 1 starters,$(PROVE)),--prove-starters) $(or $(EX),$(CH))

# What is handed out: all of it but the answers.
student:
	@sh tests/exercises/student.sh '$(DIR)'

# Throws bytes at the HTTP parser and at the readers of values, then conversations at the servers,
# each for SECONDS (needs clang). What it learns stays in build/. SEED=... begins with that round.
SECONDS ?= 60
fuzz: $(FUZZ) build/fuzz_conversations
	@$(MAKE) SAN=address,undefined $(FUZZ_SERVERS)
	@mkdir -p build/corpus build/corpus_values
	@for what in 'http build/corpus tests/fuzz_corpus' 'values build/corpus_values'; do \
		build/fuzz_$$what -max_total_time=$(SECONDS) -timeout=5 -max_len=65536 -verbosity=0 \
			-print_final_stats=1 -artifact_prefix=build/ || exit 1; done
	@SEED=$(SEED) build/fuzz_conversations $(SECONDS) $(FUZZ_SERVERS)

bench: all $(if $(UV),$(BENCH),$(filter-out %/uv_echo,$(BENCH)))
	@$(BUILD)/bench/bench $(BENCHARGS)
	@$(BUILD)/bench/trips $(TRIPS)

# --- how the code is written ---

SOURCES := $(wildcard 0*/*.[ch] 0*/*/*.[ch] 0*/*/*/*.[ch] tests/*.[ch] tests/*/*.[ch])
TIDY := clang-analyzer-*,bugprone-*,performance-*,-bugprone-easily-swappable-parameters,$\
        -clang-analyzer-security.insecureAPI.DeprecatedOrUnsafeBufferHandling
lint:
	clang-format --dry-run -Werror $(SOURCES)
	printf '%s\n' $(filter %.c,$(SOURCES)) | xargs -n 1 -P 2 sh -c 'clang-tidy --quiet \
		--warnings-as-errors="*" --checks="-*,$(TIDY)" "$$@" -- -std=gnu11 $(WARNINGS) \
		$(KQUEUE_CPPFLAGS) -I07-event-loop -I07-event-loop/coroutines -I07-event-loop/exercises -I08-threadpool \
		-I09-cpu-offload' tidy

format:
	clang-format -i $(SOURCES)

clean:
	rm -rf build $(foreach c,$(CHAPTERS),$(c)/server $(c)/client) $(AWAIT)

FORCE:
.PHONY: all exercises help check-library run diff carry demo test prove grade student fuzz bench lint format clean FORCE
.SECONDARY:
.DELETE_ON_ERROR:
-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
