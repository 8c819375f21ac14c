/* Work in a process of its own: what hangs or crashes there costs the worker nothing but that work. */
#pragma once

/* Forks, calls run(data) in the child, and waits until it has returned or exited, at most so long. What it finds it
 * leaves in shared memory (mmap(2) with MAP_SHARED). The child ends with its parent, however that ends. Returns 0 when
 * it has ended by itself, the positive number of the signal that has ended it, or a negative errno: -ETIMEDOUT when it
 * was killed for being late, others when there was none. */
int child_run(void (*run)(void *data), void *data, unsigned seconds);
