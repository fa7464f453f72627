"""What goes to the Hub: models with their cards, and the citation blocker. The only room that writes there."""
