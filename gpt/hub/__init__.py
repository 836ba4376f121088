"""The Hugging Face Hub: checkpoints pushed and pulled, and the way to and from transformers' classes."""
