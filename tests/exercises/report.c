#include "grade.h"

#include <string.h>

/* --- points --- */

int exercise_checks(const struct exercise *exercise)
{
    int count = 0;
    while (count < MAX_CHECKS && exercise->checks[count].run)
        count++;
    return count;
}

int exercise_points(const struct exercise *exercise)
{
    int points = 0;
    for (int i = 0; i < exercise_checks(exercise); i++)
        points += exercise->checks[i].points;
    return points;
}

/* Something works that the starter does not do. */
static bool is_begun(const struct exercise *exercise, const struct outcome *outcome)
{
    for (int i = 0; i < exercise_checks(exercise); i++)
        if (!exercise->checks[i].kept && outcome->results[i] == PASSED)
            return true;
    return false;
}

int check_points(const struct exercise *exercise, const struct outcome *outcome, int check)
{
    bool counts = outcome->results[check] == PASSED && is_begun(exercise, outcome);
    return counts ? exercise->checks[check].points : 0;
}

int outcome_points(const struct exercise *exercise, const struct outcome *outcome)
{
    int points = 0;
    for (int i = 0; i < exercise_checks(exercise); i++)
        points += check_points(exercise, outcome, i);
    return points;
}

/* --- for people --- */

void report_exercise(FILE *out, const struct exercise *exercise, const struct outcome *outcome)
{
    int waiting = 0;
    fprintf(out, "  %-32s %3d of %2d\n", exercise->name, outcome_points(exercise, outcome),
            exercise_points(exercise));
    for (int i = 0; i < exercise_checks(exercise); i++) {
        const struct check *check = &exercise->checks[i];
        if (outcome->results[i] == PASSED)
            waiting += check->points - check_points(exercise, outcome, i);
        else if (i == 0 || strcmp(outcome->sentences[i], outcome->sentences[i - 1]) != 0)
            fprintf(out, "    -%d %s:\n       %s\n", check->points, check->shows,
                    outcome->sentences[i]);
        else
            fprintf(out, "    -%d %s: the same\n", check->points, check->shows);
    }
    if (waiting)
        fprintf(out, "    %d more for what works as before, once one of the others does\n",
                waiting);
}

static bool same_chapter(const struct exercise *a, const struct exercise *b)
{
    return strncmp(a->name, b->name, 2) == 0;
}

void report_chapters(FILE *out, const struct report *report)
{
    int total = 0, most = 0;
    fprintf(out, "\nchapter                  exercises   points\n");
    for (int i = 0, end; i < report->count; i = end) {
        int points = 0, of = 0;
        for (end = i;
             end < report->count && same_chapter(report->exercises[i], report->exercises[end]);
             end++) {
            points += outcome_points(report->exercises[end], &report->outcomes[end]);
            of += exercise_points(report->exercises[end]);
        }
        const char *name = report->exercises[i]->name;
        fprintf(out, "%-24.*s %9d %4d of %3d\n", (int)strcspn(name, "/"), name, end - i, points,
                of);
        total += points;
        most += of;
    }
    fprintf(out, "%-24s %9d %4d of %3d\n", "all", report->count, total, most);
}

/* --- for programs --- */

/* Text of the program's may be in it, so only what is printable ASCII stays as it is. */
static void put_json(FILE *out, const char *text)
{
    fputc('"', out);
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (*c == '"' || *c == '\\')
            fprintf(out, "\\%c", *c);
        else if (*c < ' ' || *c > '~')
            fprintf(out, *c < 0x80 ? "\\u%04x" : "?", *c);
        else
            fputc(*c, out);
    fputc('"', out);
}

void report_json(FILE *out, const struct report *report)
{
    int points = 0;
    const char *separator = "";
    fprintf(out, "{\n  \"tests\": [");
    for (int i = 0; i < report->count; i++) {
        const struct exercise *exercise = report->exercises[i];
        const struct outcome *outcome = &report->outcomes[i];
        points += outcome_points(exercise, outcome);
        for (int j = 0; j < exercise_checks(exercise); j++) {
            char name[256];
            bool passed = outcome->results[j] == PASSED;
            int score = check_points(exercise, outcome, j);
            snprintf(name, sizeof name, "%s: %s", exercise->name, exercise->checks[j].shows);
            fprintf(out, "%s\n    {\"name\": ", separator);
            put_json(out, name);
            fprintf(out,
                    ", \"score\": %d, \"max_score\": %d, \"status\": \"%s\", \"output\": ", score,
                    exercise->checks[j].points,
                    passed && score == exercise->checks[j].points ? "passed" : "failed");
            put_json(out, !passed ? outcome->sentences[j]
                          : score ? ""
                                  : "works as before; it counts once one of the others does");
            fprintf(out, "}");
            separator = ",";
        }
    }
    fprintf(out, "\n  ],\n  \"score\": %d,\n  \"execution_time\": %.0f\n}\n", points,
            report->seconds);
}

static void put_xml(FILE *out, const char *text)
{
    for (const unsigned char *c = (const unsigned char *)text; *c; c++)
        if (strchr("<>&\"'", *c))
            fprintf(out, "&#%d;", *c);
        else
            fputc(*c == '\n' ? ' ' : *c < ' ' || *c > '~' ? '?' : *c, out);
}

static void put_suite(FILE *out, const struct exercise *exercise, const struct outcome *outcome)
{
    int count = exercise_checks(exercise), failures = 0;
    double seconds = 0;
    for (int i = 0; i < count; i++) {
        failures += outcome->results[i] != PASSED;
        seconds += outcome->seconds[i];
    }
    fprintf(out,
            "  <testsuite name=\"%s\" tests=\"%d\" failures=\"%d\" errors=\"0\" skipped=\"0\" "
            "time=\"%.3f\">\n",
            exercise->name, count, failures, seconds);
    for (int i = 0; i < count; i++) {
        fprintf(out, "    <testcase classname=\"%s\" name=\"", exercise->name);
        put_xml(out, exercise->checks[i].shows);
        fprintf(out, "\" time=\"%.3f\"", outcome->seconds[i]);
        if (outcome->results[i] == PASSED) {
            fprintf(out, "/>\n");
            continue;
        }
        fprintf(out, ">\n      <failure message=\"");
        put_xml(out, outcome->sentences[i]);
        fprintf(out, "\"/>\n    </testcase>\n");
    }
    fprintf(out, "  </testsuite>\n");
}

void report_xml(FILE *out, const struct report *report)
{
    int checks = 0, failures = 0;
    for (int i = 0; i < report->count; i++)
        for (int j = 0; j < exercise_checks(report->exercises[i]); j++) {
            checks++;
            failures += report->outcomes[i].results[j] != PASSED;
        }
    fprintf(out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<testsuites name=\"exercises\" tests=\"%d\" failures=\"%d\" errors=\"0\" "
            "time=\"%.3f\">\n",
            checks, failures, report->seconds);
    for (int i = 0; i < report->count; i++)
        put_suite(out, report->exercises[i], &report->outcomes[i]);
    fprintf(out, "</testsuites>\n");
}
