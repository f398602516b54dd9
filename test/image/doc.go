// Package image tests what is handed to others: the container image of make image, the files of make release, the Dockerfile,
// and the workflows that call them. The image and a release are built twice, from copies of the sources in different places,
// and have to be the same to the byte. There is no container engine: test/pods runs the image.
package image
