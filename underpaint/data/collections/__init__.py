"""The collections that come with the package: drawings, clip art, photographs, emoji, digits."""
