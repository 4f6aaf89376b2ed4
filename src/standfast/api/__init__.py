"""The HTTP API: what people and programs may do, over HTTP; it translates and decides nothing but who may ask."""
