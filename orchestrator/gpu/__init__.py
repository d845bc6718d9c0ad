"""GPUs of this host: measured through NVML, or declared by the user and marked as simulated."""
