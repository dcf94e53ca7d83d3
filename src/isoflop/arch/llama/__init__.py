"""RMSNorm, rotary positions, SwiGLU, tied embedding, no biases."""
