"""Other people's tools: exported checkpoints, lmms-eval, Inspect, a playground with gradio."""
