#ifndef DS4_ENGINE_H
#define DS4_ENGINE_H
/* Inside of an engine: the model and its backend, shared by engine.c and session.c alone. */
#include "engine/ds4.h"
#include "engine/forward.h"

struct ds4_engine {
    char *path;
    ds4_gguf *gguf;
    ds4_config config;
    ds4_weights weights;
    ds4_tokenizer *tokenizer; /* NULL until it is wanted */
    ds4_backend *backend;
    ds4_model_bufs bufs;
    ds4_variant_set variants;
    ds4_routes routes;
    ds4_profile profile;
};

#endif
