"""Models on the Hugging Face hub, and signatures of models: addresses, downloads, uploads, keys."""
