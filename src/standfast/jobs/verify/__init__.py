"""Whether stored auth state is whole, and what may be mended of it."""
