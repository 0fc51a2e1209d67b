"""The Latent space tab."""
