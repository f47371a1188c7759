#ifndef DRIFT_CMD_TOKENIZE_H
#define DRIFT_CMD_TOKENIZE_H
/* `model tokenize`: a file of text to a file of ids, and back. */
#include "engine/ds4.h"

typedef enum cmd_specials {
    CMD_SPECIALS_PLAIN,
    CMD_SPECIALS_RENDERED,
    CMD_SPECIALS_ADDED
} cmd_specials;

typedef struct cmd_tokenize_options {
    const char *model, *tokenizer; /* one of them: a GGUF, a tokenizer.json */
    const char *input, *output;    /* NULL or "-": standard input, standard output */
    ds4_pre pre;
    cmd_specials specials; /* what spellings of special tokens become */
    bool decode, time;     /* time: rates on standard error */
} cmd_tokenize_options;

/* Ids are written one a line and read with any white space between them. An output file appears
 * complete or not at all. Errors: DS4_ERR_IO, DS4_ERR_FORMAT. */
ds4_status cmd_tokenize(const cmd_tokenize_options *o, ds4_err *err);

#endif
