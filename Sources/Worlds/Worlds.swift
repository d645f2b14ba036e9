/// `Worlds`: see ARCHITECTURE.md.
