/// `Storage`: see ARCHITECTURE.md.
