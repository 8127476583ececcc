"""The only package that calls OpenGL: requests in, frames out."""
