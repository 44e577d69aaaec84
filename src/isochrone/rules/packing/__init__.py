"""Inside a site: which node and which of its GPUs, so that what is left stays useful."""
