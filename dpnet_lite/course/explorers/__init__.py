"""Pictures of one opened episode, each a pure function of its arguments, and the widgets that drive them."""
