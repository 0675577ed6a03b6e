/* A network that is built with this header says when each of its steps begins, and when the last one has ended. */
#ifndef SHOHIN_FIRMWARE_STEPS_H
#define SHOHIN_FIRMWARE_STEPS_H

void shohin_step(int number);

#endif
