/// `Neural`: see ARCHITECTURE.md.
