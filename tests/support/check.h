// SPDX-License-Identifier: MIT
/**
 * Assertions on the reference models, for tests that have included <cmocka.h>.
 *
 * A model answers an operation with NULL, or with the sentence that says what is wrong with it. So
 * a test reads T_LEGAL(t_mframes_alloc(&model, pfn, 0)), and a failure prints the sentence. Only
 * macros live here, so that the models themselves need no test framework.
 */
#ifndef T_CHECK_H
#define T_CHECK_H

/** The model must agree. */
#define T_LEGAL(expression)                                                                        \
    do {                                                                                           \
        const char *t_wrong_ = (expression);                                                       \
        if (t_wrong_ != NULL) {                                                                    \
            fail_msg("%s: %s", #expression, t_wrong_);                                             \
        }                                                                                          \
    } while (0)

/** The model must object. */
#define T_ILLEGAL(expression)                                                                      \
    do {                                                                                           \
        if ((expression) == NULL) {                                                                \
            fail_msg("%s: the model agrees, and must not", #expression);                           \
        }                                                                                          \
    } while (0)

#endif
