"""Cards of models and data: Markdown with the metadata of the Hugging Face hub."""
