"""What clients ask for: text-generation-inference's routes and OpenAI's, on whichever engine the state holds."""
