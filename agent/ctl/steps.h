/* The steps of the way of an identity, in words. */
#pragma once

/* NULL for a step that is a plugin's own. */
const char *step_describe(const char *step);
