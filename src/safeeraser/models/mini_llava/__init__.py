"""MiniLLaVA, the embedded model of 1.8M parameters: its weights, its architecture, its pre-training."""
