"""The pages that use a model, in Gradio."""
