"""The mathematics: arrays in, a frozen result out."""
