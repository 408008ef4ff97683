"""Providers that speak the OpenAI protocol; the only place that imports `openai`."""
