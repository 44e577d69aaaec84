"""Adapters that run AI models: ONNX Runtime, llama.cpp, any OpenAI or OIP upstream.

Start at ``engine.py``: the interface. This room knows models and their two APIs (Open Inference
Protocol v2, OpenAI); it knows nothing of nodes, leases, gateways or places.
"""
