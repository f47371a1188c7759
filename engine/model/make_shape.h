#ifndef DS4_MODEL_MAKE_SHAPE_H
#define DS4_MODEL_MAKE_SHAPE_H
/* What make.c asks of the options before it lays a file out. */
#include "engine/model/make.h"

/* Bounds of each dimension and the rules between them (model.md section 8). */
ds4_status ds4_make_check_shape(ds4_config *c, ds4_err *err);
/* Reads the lists: ratio and clamp of every layer into o->shape, and which layers have a bias.
 * The shape has been checked. */
ds4_status ds4_make_read_lists(ds4_make_options *o, bool biased[DS4_MAX_LAYER], ds4_err *err);

#endif
