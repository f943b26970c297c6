"""What FedEFM is compared with: one file per method that Flower lacks."""
