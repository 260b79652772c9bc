"""Networks (encoder, decoder, text tower), their initial weights, and the folders and files that hold them."""
