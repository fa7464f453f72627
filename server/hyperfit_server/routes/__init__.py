"""Routes for clients: text-generation-inference's routes and OpenAI's, on whichever engine the state holds."""
