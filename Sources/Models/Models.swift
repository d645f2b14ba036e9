/// `Models`: see ARCHITECTURE.md.
