"""FP8 paged MQA logits, fixed and variable context, after AITER's `pa_mqa_logits`: in Triton, and Gluon for CDNA4."""
