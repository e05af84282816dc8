/* What has become of the exercises: made by grade.c, told by report.c. */
#ifndef GRADE_H
#define GRADE_H

#include "exercise.h"
#include <stdio.h>

enum result { NOT_RUN, PASSED, FAILED };

/* Of one exercise. Lies in memory that the grader shares with the process that supervises the
 * checks; the program itself cannot get at it. */
struct outcome {
    enum result results[MAX_CHECKS];
    char sentences[MAX_CHECKS][640]; /* why it failed; of those that did not run: why not */
    double seconds[MAX_CHECKS];
    int running;   /* which check is, counted from 1; 0: the program is being built */
    bool finished; /* all checks are over */
};

/* How many checks an exercise has, and how many points it gives. */
int exercise_checks(const struct exercise *exercise);
int exercise_points(const struct exercise *exercise);

/* The points for one check: none for what the starter passes, too, while that is all. And their
 * sum. */
int check_points(const struct exercise *exercise, const struct outcome *outcome, int check);
int outcome_points(const struct exercise *exercise, const struct outcome *outcome);

/* The exercises that were graded, in their order. */
struct report {
    const struct exercise *const *exercises;
    const struct outcome *outcomes;
    int count;
    double seconds; /* that all of it took */
};

/* One exercise's points, and a sentence for each check that failed. */
void report_exercise(FILE *out, const struct exercise *exercise, const struct outcome *outcome);

/* The table of the chapters' points. */
void report_chapters(FILE *out, const struct report *report);

/* The results.json of Gradescope's autograder, and the XML of JUnit, which CI systems read. */
void report_json(FILE *out, const struct report *report);
void report_xml(FILE *out, const struct report *report);

#endif
