"""The paper's family: pre-norm RMSNorm, Transformer-XL relative positions, GELU, tied embedding."""
