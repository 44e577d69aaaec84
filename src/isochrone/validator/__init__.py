"""The validator: collects records, recomputes the books, signs roots, audits."""
