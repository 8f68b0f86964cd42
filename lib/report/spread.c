/* spread.c -- mean, standard deviation and confidence interval over a few seeds. */
#include "rows.h"

#include <math.h>

gm_spread gm_spread_of(const double *values, int n) {
    gm_spread s = {0, NAN, NAN};
    double sum = 0, squares = 0, least = INFINITY, greatest = -INFINITY;
    for (int i = 0; i < n; i++) {
        if (isfinite(values[i])) {
            sum += values[i];
            least = fmin(least, values[i]);
            greatest = fmax(greatest, values[i]);
            s.n++;
        }
    }
    if (s.n == 0)
        return s;
    s.mean = fmin(fmax(sum / s.n, least), greatest); /* of equal values it is theirs, without the sum's rounding */
    for (int i = 0; i < n; i++) {
        if (isfinite(values[i]))
            squares += (values[i] - s.mean) * (values[i] - s.mean);
    }
    if (s.n > 1)
        s.std = sqrt(squares / (s.n - 1));
    return s;
}

/* The 97.5% quantile of Student's t. */
static double student_975(int freedom) {
    static const double table[] = {12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281,
                                   2.2010,  2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860};
    if (freedom <= GM_COUNT(table))
        return table[freedom - 1];
    /* Cornish-Fisher expansion about the normal quantile; error below 1e-5 past 20 degrees of freedom */
    const double z = 1.959963985, z3 = z * z * z, z5 = z3 * z * z, v = freedom;
    return z + (z3 + z) / (4 * v) + (5 * z5 + 16 * z3 + 3 * z) / (96 * v * v) +
           (3 * z5 * z * z + 19 * z5 + 17 * z3 - 15 * z) / (384 * v * v * v);
}

double gm_spread_interval95(const gm_spread *s) {
    return s->n < 2 ? NAN : student_975(s->n - 1) * s->std / sqrt(s->n);
}
