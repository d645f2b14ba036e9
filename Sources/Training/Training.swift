/// `Training`: see ARCHITECTURE.md.
