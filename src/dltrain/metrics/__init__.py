"""How a split is evaluated: what each metric keeps of it, and what it computes from that."""
