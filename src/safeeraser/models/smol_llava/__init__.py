"""SmolLLaVA: SmolLM2-135M-Instruct, which others trained, with MiniLLaVA's eyes; what we trained and how."""
