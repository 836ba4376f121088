"""The training page, in Gradio."""
