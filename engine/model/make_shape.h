#ifndef DS4_MODEL_MAKE_SHAPE_H
#define DS4_MODEL_MAKE_SHAPE_H
/* What make.c asks of a shape before it lays a file out. */
#include "engine/model/make.h"

/* Bounds of each dimension and the rules between them (model.md section 8). */
ds4_status ds4_make_check_shape(ds4_config *c, ds4_err *err);

#endif
