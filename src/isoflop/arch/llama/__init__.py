"""RMSNorm, rotary positions, SwiGLU, no biases; grouped queries and a head of its own by choice."""
