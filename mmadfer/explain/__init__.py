"""Pictures of what a trained model looks at and listens to, and how far they can be believed."""
