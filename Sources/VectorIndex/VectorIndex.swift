/// `VectorIndex`: see ARCHITECTURE.md.
