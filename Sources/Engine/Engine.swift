/// `Engine`: see ARCHITECTURE.md.
