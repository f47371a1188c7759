#ifndef DS4_MODEL_ROPE_FREQ_H
#define DS4_MODEL_ROPE_FREQ_H
/* Rotary frequencies of a model as turns per position, computed once on the host. */
#include "engine/model/config.h"

/* Fills dst [n_rot / 2][2] with the low and high word of floor(2^64 * freq_k / 2 pi).
 * compressed: base rope_base_comp with the YaRN ramp of model.md 3.0, else rope_base.
 * exp2_log2: DS4_ROPE_EXP2_LOG2, base^(-2k/r) as exp2(k * (-2/r log2 base)) in f32 steps; else
 * from float64. Order: freq = base^(-2k/r); times (ramp + (1 - ramp) / factor) in float64. */
void ds4_rope_freq(uint32_t *dst, const ds4_config *cfg, bool compressed, bool exp2_log2);

/* What the frequencies were made from, as f32: for rows that build angles in their own way. */
enum {
    DS4_ROPE_BASE, /* of these layers */
    DS4_ROPE_YARN, /* 1: the ramp applies, 0: the next four do not matter */
    DS4_ROPE_FACTOR,
    DS4_ROPE_N_CTX,
    DS4_ROPE_BETA_FAST,
    DS4_ROPE_BETA_SLOW,
    DS4_ROPE_N_CONSTANT
};
/* Words of the buffer that the rope op is given: n_rot of turns, then the bits of these. */
#define DS4_ROPE_N_WORD(n_rot) ((n_rot) + DS4_ROPE_N_CONSTANT)
/* Fills dst [DS4_ROPE_N_CONSTANT]. */
void ds4_rope_constants(uint32_t *dst, const ds4_config *cfg, bool compressed);

#endif
