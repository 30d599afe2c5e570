"""Networks: plain modules that know nothing of training, devices or data sets."""
