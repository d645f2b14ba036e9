/// `State`: see ARCHITECTURE.md.
