"""The studio: a thin Gradio interface in the browser."""
