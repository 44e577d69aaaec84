"""The world as data: cities, countries, legal blocs, round trips, audiences.

Pure look-ups over files that ship with the package (``data/``, with their sources in
``data/ATTRIBUTION.md``). Imports only ``schema``. What is here is prior knowledge: measurements of
the running network replace it wherever they exist.
"""
